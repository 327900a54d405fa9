"""`sil export` and what follows from it: galleries that keep it, queries without torch, int8 as a model of its own."""
