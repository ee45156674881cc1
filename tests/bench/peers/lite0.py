"""The published weights of EfficientNet-Lite0, as timm names them; imports nothing."""


def as_timm(published):
    """Name the published weights of EfficientNet-Lite0 as timm does."""
    depths, state = (1, 2, 2, 3, 3, 4, 1), {}
    places = [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]
    parts = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
    norms = {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
    first = {
        "_depthwise_conv": "conv_dw",
        "_project_conv": "conv_pw",
        "_bn1": "bn1",
        "_bn2": "bn2",
    }  # it does not expand
    for key, value in published.items():
        words = key.split(".")
        if words[0] == "_conv_stem":
            state[f"conv_stem.{words[-1]}"] = value
        elif words[0] == "_bn0":
            state[f"bn1.{words[-1]}"] = value
        elif words[0] == "_blocks":
            stage, block = places[int(words[1])]
            name = first[words[2]] if stage == 0 else {**parts, **norms}[words[2]]
            state[f"blocks.{stage}.{block}.{name}.{words[-1]}"] = value
    return state
