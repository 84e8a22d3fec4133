"""The steps of Setup, one file each: what it asks for, what it shows, when it is done."""
