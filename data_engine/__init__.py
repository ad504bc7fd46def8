"""The data engine: public reasoning data in, versioned, verified, decontaminated, captioned Parquet datasets out."""
