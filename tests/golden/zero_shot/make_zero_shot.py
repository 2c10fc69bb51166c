"""Write the .npz files beside this file, from whole models of transformers.

python make_zero_shot.py
"""

import pathlib
import sys
import tempfile

import numpy as np
import safetensors.numpy
import torch
import transformers

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "transformers"))

import named_weights  # noqa: E402

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEXT = SMALL | {"vocab_size": 50, "max_position_embeddings": 8}
IMAGE = SMALL | {"image_size": 32, "patch_size": 8}
IDS = torch.tensor([[1, 5, 9, 3, 49], [2, 40, 3, 49, 49], [7, 7, 8, 30, 49]])


def built(kind):
    """Build CLIP or SigLIP, of text and image."""
    text, image = dict(TEXT), dict(IMAGE)
    if kind == "clip":
        text |= {"eos_token_id": 49, "bos_token_id": 0, "pad_token_id": 1}
        both = {"text_config": text, "vision_config": image}
        config = transformers.CLIPConfig(**both, projection_dim=16)
        return transformers.CLIPModel(config)
    config = transformers.SiglipConfig(text_config=text, vision_config=image)
    return transformers.SiglipModel(config)


def main():
    """Write both files."""
    torch.set_num_threads(1)
    for kind in ("clip", "siglip"):
        model = built(kind)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            file = pathlib.Path(folder, "model.safetensors")
            saved = safetensors.numpy.load_file(file)
            state = named_weights.state(saved, [each.shape for each in saved.values()])
            state["logit_scale"] = np.full(saved["logit_scale"].shape, 1.25, "f4")
            if kind == "siglip":
                state["logit_bias"] = np.full(saved["logit_bias"].shape, -1.5, "f4")
            safetensors.numpy.save_file(state, file, {"format": "pt"})
            model = type(model).from_pretrained(folder).double().eval()
        pixels = np.concatenate(
            [named_weights.images(32, 32), named_weights.images(32, 32)[:, ::-1]]
        ).astype(np.float64)
        pixels = ((pixels - MEAN) / DEVIATION).transpose(0, 3, 1, 2).copy()
        with torch.no_grad():
            found = model(input_ids=IDS, pixel_values=torch.from_numpy(pixels))
            texts = model.get_text_features(IDS)
        texts = getattr(texts, "pooler_output", texts)
        image = {n: a for n, a in state.items() if not n.startswith("text_")}
        terms = {n: a for n, a in image.items() if n.startswith("logit_")}
        np.savez_compressed(
            HERE / f"{kind}.npz",
            names=np.array([n for n in image if n not in terms]),
            shapes=np.array(
                [
                    ",".join(map(str, a.shape))
                    for n, a in image.items()
                    if n not in terms
                ]
            ),
            texts=texts.numpy(),
            logits=found.logits_per_image.numpy(),
            **terms,
        )
        print(kind, found.logits_per_image, texts.norm(dim=1), terms)


if __name__ == "__main__":
    main()
