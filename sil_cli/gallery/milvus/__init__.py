"""The gallery in a collection of Milvus: a server, a cluster, or a Milvus Lite file."""
