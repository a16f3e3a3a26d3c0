from transformers_networks import DPT, read


def test_a_large_dpt_is_mapped_without_its_auxiliary_head():
    large = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "backbone_out_indices": [5, 11, 17, 23],
        "neck_hidden_sizes": [256, 512, 1024, 1024],
        "use_batch_norm_in_fusion_residual": True,
    }
    layout = read(DPT, **large)
    assert (layout.name, layout.num_classes, layout.class_names) == ("dpt", 2, ("a", "b"))
    assert layout.options == {
        "encoder": "vit_large_patch16_384",
        "encoder_epsilon": 1e-12,
        "feature_blocks": (6, 12, 18, 24),
        "readout": "project",
        "neck_channels": (256, 512, 1024, 1024),
        "fusion_channels": 256,
        "batch_norm": True,
        "dropout": 0.1,
    }
    assert layout.notes == ("the auxiliary head, which predictions do not use, is not loaded",)
    assert not read(DPT, use_auxiliary_head=False).notes
