"""What the command line says of itself: examples, and what comes of them."""

EXPLAIN = """\
examples:
  unlir explain cat.jpg
  unlir explain photos/ 'more/*.png' --method grad_cam,opti_cam --output report
  unlir explain cat.jpg --label "tiger cat" --output report --overwrite
  unlir explain cat.jpg --model mobilenet_v2 --weights mobilenet_v2-b0353104.pth

Writes for each picture an overlay per method and a comparison sheet, and results.json
and report.html for all of them. Open report.html in a browser. For the workdir of a
part network it says which parts decided, where they are and how much each added.
"""
PARTS = """\
examples:
  unlir parts --workdir runs/birds --output gallery
  unlir parts --workdir runs/birds --output gallery --classes gadwall,mallard
  unlir parts --workdir runs/birds --output gallery --contrast gadwall,mallard

Writes parts.html, parts.png and results.json: each part with its best training regions
and the classes that it speaks for, and each category with the parts that define it.
Open parts.html in a browser.
"""
EVALUATE = """\
examples:
  unlir evaluate --config configs/evaluate.py:model=mobilenet_v2,\\
methods=grad_cam+opti_cam,metrics=average_drop+insertion \\
      --config.data.path=pictures --config.model.weights=FILE --workdir runs/scores
  unlir evaluate --config configs/evaluate.py:model=runs/birds \\
      --config.data.path=birds --config.labels=predicted --workdir runs/scores

Writes per_image.parquet and .csv (image, label, method, metric, value), summary.json
with intervals, summary.md and report.html. Killed or stopped, the same command goes on
where it was, and ends with the same table.
"""
RETRIEVE = """\
examples:
  unlir retrieve bird.jpg --index birds/test --output alike
  unlir retrieve queries/ --index birds/test --model runs/birds --pool rmac --whiten 128
  unlir retrieve bird.jpg --index birds/test --model mobilenet_v2 \\
      --adapter runs/few/adapters/0_crops.safetensors

Writes results.json and retrieval.html. Where the folders of the index name classes, the
mean average precision with which its pictures find their own class is given too.
"""
ADAPTERS = """\
examples:
  unlir adapters apply mobilenet_v2 birds.safetensors adapted.safetensors
  unlir adapters merge one.safetensors other.safetensors --output both.safetensors
  unlir adapters diff one.safetensors other.safetensors --layers 10
  unlir adapters explain birds.safetensors --images birds/test --output filters

An adapter holds one number for each filter of a frozen network, and its head.
`configs/few_shot.py:method=filters` leaves some in WORKDIR/adapters. `explain` writes
filters.html: weights by layer, what the filters that gained and lost most respond to,
and where the network looks before and after.
"""
TRAIN = """\
examples:
  unlir train --config configs/quickstart.py --workdir runs/first
  unlir train --config configs/linear_probe.py:backbone=efficientnet_lite0 \\
      --config.data.path=birds --config.seed=1 --workdir runs/birds
  unlir train --config configs/quickstart.py --dry-run

Any setting can be changed by --config.NAME=VALUE; --dry-run lists them all. The same
command with the same workdir goes on with a training that was stopped. A finished
workdir is a network: `unlir explain cat.jpg --model runs/birds`.
"""
MODELS = """\
examples:
  unlir models                         all networks
  unlir models efficientnet_lite0      the layers at which it can be cut
  unlir models --json
"""
METHODS = """\
examples:
  unlir methods
  unlir methods --json
"""
CONVERT = """\
examples:
  unlir convert mobilenet_v2 mobilenet_v2-b0353104.pth mobilenet_v2.safetensors
  unlir convert resnet50 hf:timm/resnet50.a1_in1k resnet50.safetensors
  unlir convert cifar_resnet20 mine.pth mine.safetensors --num-classes 100

The file holds our names and axes; give it to --weights, or to unlir_jax.load.
"""
PROGRAM = """\
examples:
  unlir train --config configs/quickstart.py --workdir runs/first
  unlir explain cat.jpg                what a network looked at, in ./explanations
  unlir parts --workdir runs/birds     what the parts of a network are, in ./parts
  unlir models                         networks, and which have weights at hand
  unlir methods                        explainers and metrics

`unlir COMMAND --help` says more. Exit codes: 0 done, 1 some pictures could not be read,
2 bad input, 3 training diverged, 70 an error of this program, 130 interrupted. With
UNLIR_TRACEBACK=1 it is shown where an error came from.
"""
