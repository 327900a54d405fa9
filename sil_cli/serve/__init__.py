"""`sil serve`: a page and an API over a gallery, that let in who belongs and remember who asked."""
