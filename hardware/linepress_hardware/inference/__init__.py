"""Transformer inference on accelerators: operators, rooflines, compression in the system, serving.

Start with `catalog.model`, `catalog.accelerator`, `roofline.roofline`, `system.evaluate`, `serving.simulate`.
"""
