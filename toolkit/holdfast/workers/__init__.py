"""Worker threads for transfers: how many, how fast, at which priority."""
