"""Programs and the records of experiments; joins the model and the data package."""
