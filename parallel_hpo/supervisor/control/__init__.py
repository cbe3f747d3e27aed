"""How a running sweep is spoken to from outside: signals, a mailbox; and how waiting heeds them."""
