"""The cleaning steps, one file each. `tasks.data_preparation.params` lists them."""
