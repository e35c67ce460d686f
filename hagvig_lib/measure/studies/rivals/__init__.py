"""What studies time `bidirectional_gla` against; none of it is a backend."""
