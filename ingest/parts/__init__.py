"""Parts that were never made: the renderer behind the simulated camera; `rendering.render` is its front door."""
