"""What the data engine and the trainer both need: row schema, answers, images, configuration, identity, versions."""
