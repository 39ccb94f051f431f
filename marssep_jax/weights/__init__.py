"""Arrays on disk: converted encoders, zips and files as views of mapped memory."""
