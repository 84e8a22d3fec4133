"""``make chaos``: kills, full disks, locked databases, wrong clocks and broken files, and what is there afterwards."""
