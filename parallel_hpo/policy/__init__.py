"""Pure answers to "may it go on?": one file per question, each a limits type and a function or two."""
