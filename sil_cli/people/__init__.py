"""Who is who in a gallery: what people said of its entries, and what follows from that."""
