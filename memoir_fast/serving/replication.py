"""What an editing service and its replicas say to each other: the routes, and the headers of their answers."""

from __future__ import annotations

CONFIG_PATH, TENSORS_PATH, RECORDS_PATH = "/memoir/store", "/memoir/store/tensors", "/memoir/store/records"
SEQ = "x-memoir-seq"  # the number of the store's last record
SETTINGS = "x-memoir-settings"  # the digest of its settings
