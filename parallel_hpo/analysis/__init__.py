"""A sweep's runs as a table, an Optuna study and plots. pandas, optuna and plotly are optional."""
