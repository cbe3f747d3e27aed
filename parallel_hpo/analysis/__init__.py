"""A sweep's runs as a table, as an Optuna study, as plots.

pandas, optuna and plotly are imported in functions alone: whoever doesn't ask for them needs none.
"""
