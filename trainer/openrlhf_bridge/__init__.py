"""The only room that knows OpenRLHF: arguments, agent, reward entry, launch, live progress, CPU adaptations."""
