from transformers_networks import EOMT, read


def test_a_large_eomt_is_mapped():
    layout = read(EOMT, image_size=512, num_queries=100)
    assert (layout.name, layout.tile) == ("eomt", (512, 512))
    assert layout.options == {
        "encoder": "vit_large_patch14_reg4_dinov2",
        "encoder_epsilon": 1e-6,
        "queries": 100,
        "blocks": 4,
        "upscalings": 2,
        "patch": 16,
        "grid": 32,
    }
