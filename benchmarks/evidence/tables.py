def write(store, parts):
    pass
