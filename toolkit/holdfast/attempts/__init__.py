"""Who goes on from where: claims, fences, and how several hosts meet."""
