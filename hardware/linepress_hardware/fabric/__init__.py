"""The scale-up fabric: collectives in closed form, links, topologies, simulation."""
