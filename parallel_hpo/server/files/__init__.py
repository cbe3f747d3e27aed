"""Files that clients upload: their storage, their signed URLs, and the folder that holds them."""
