"""The parts of the tab Curate & Export, one file each."""
