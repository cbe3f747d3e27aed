"""The pages in the browser and their data. They read the database; `actions` changes sweeps and runs."""
