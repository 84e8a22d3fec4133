"""The page. Everything that Gradio knows about is here; the work is done by ``ltg_core``."""

import os

# Read by the libraries when they are imported: no usage statistics, no look-ups on the network.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# A bar drawn into the server's log says nothing; transformers asks the hub's library whether to draw any.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
