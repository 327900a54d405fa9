"""The gallery of one machine: a folder with an SQLite database and FAISS files of vectors."""
