"""The short help of each command: what it does, examples, and the options that people use; one screen each."""

FIT = """usage: kd-lightning fit --config FILE [OPTION VALUE ...]

Train a network, with or without a teacher; then test it, export it and print a
summary. A missing teacher and the student without one (the baseline) are
trained first, each by its own config; a finished run with the same settings is
reused.

examples:
  kd-lightning fit --config quickstart.yaml
  kd-lightning fit --config cosine.yaml --trainer.max_epochs 10
  kd-lightning fit --config quickstart.yaml --model.losses.kd DIST

options:
  --config FILE                    a config of yours or of `kd-lightning list
                                   configs`; a second one overrides the first
  --trainer.max_epochs N           epochs to train
  --trainer.limit_train_batches N  batches of an epoch, for a quick try
  --trainer.accelerator NAME       cpu, gpu or auto (default: auto)
  --model.network CLASS            the network; its options follow it, as in
                                   --model.network.dropout 0.1
  --model.losses.kd CLASS          the loss that the config calls kd
  --model.losses.kd.temperature T  an option of that loss
  --model.optimizer.lr RATE        the learning rate
  --model.teacher.weights FILE     a trained teacher, a .pth or .ckpt
  --baseline CONFIG                the student without a teacher, run first
  --data CLASS                     the data, as in --data CIFAR10DataModule
  --data.batch_size N              images of a step
  --data.augment LIST              as in '[RandomCrop, HorizontalFlip]'
  --seed_everything N              the random seed (default: 0)
  --ckpt_path FILE                 go on from a checkpoint: a file, or last
  --quiet                          print only the summary

more:
  --help GROUP   one of model, losses, networks, data, augmentations, trainer,
                 files
  --help all     every option there is, and each one's type"""

MEASURE = """usage: kd-lightning {command} --config FILE [OPTION VALUE ...]

{what}

examples:
  kd-lightning {command} --config student.yaml --ckpt_path best
  kd-lightning {command} --config lightning_logs/student/version_0/config.yaml \\
      --ckpt_path last
  kd-lightning {command} --config student.yaml --ckpt_path weights.pth

options:
  --config FILE                  the config of the fit, or a run's config.yaml
  --ckpt_path FILE               a .ckpt or .pth; best or last: the newest run's
  --data CLASS                   other data: --data ImageFolderDataModule
  --data.root FOLDER             where the data are
  --data.eval_batch_size N       images that are measured at once
  --trainer.accelerator NAME     cpu, gpu or auto (default: auto)
  --trainer.{limit} N  measure only some batches

more:
  --help GROUP   one of model, losses, networks, data, augmentations, trainer,
                 files
  --help all     every option there is, and each one's type"""

COMPARE = """usage: kd-lightning compare --config STUDY [OPTION VALUE ...]

Run a study: train a baseline and what is compared with it with several random
seeds, and say of each whether it helps, hurts or is inconclusive. Finished runs
are kept; the same command goes on where it stopped. The report is a page,
tables and figures in the study's folder.

examples:
  kd-lightning compare --config quickstart_compare.yaml --seeds 5
  kd-lightning compare --config notebook_table.yaml --trainer.max_epochs 10
  kd-lightning compare --config levers.yaml --output levers_again

options:
  --config STUDY            a study of yours or of `kd-lightning list configs`
  --seeds N                 seeds of each row, planned at the first start
                            (default: 5)
  --first_seed N            the first seed (default: 0)
  --tuning_seeds N          other seeds, with which the settings of a row's grid
                            or search are tried (default: 2)
  --looks LIST              verdicts at several numbers of seeds, as in [5, 10]
  --output FOLDER           of report and runs (default: lightning_logs/STUDY)
  --jobs N                  runs at once (default: as many as there is room for)
  --threads N               CPU threads of each run
  --onnx false              no ONNX file, so no size and latency
  --engine NAME             local, slurm or ray: each run is a job of a cluster
  --slurm.OPTION VALUE      partition, time, gpus, cpus, memory, setup of a job
  --ray.OPTION VALUE        address of a cluster, gpus of a run, as in 0.25
  --trainer.OPTION VALUE    an option of `fit` for every run; --model and
                            --data, too, as in --trainer.max_epochs 5

more:
  --help all     every option there is, and each one's type"""

EXPORT = """usage: kd-lightning export --model FILE [OPTION VALUE ...]

Write a trained model as ONNX files, each compared with the model before it is
saved. With --data they are compared on its test images, and the static int8
file is calibrated on its training images; without, they are compared on noise.

examples:
  kd-lightning export --model weights.pth
  kd-lightning export --model weights.pth --data CIFAR10DataModule
  kd-lightning export --model weights.pth --data ShapesDataModule --web page

options:
  --model FILE              the model, a .pth or .ckpt of a run
  --network CLASS           a network of your own, as in my_networks.TinyNN
  --data CLASS              the model's data, to calibrate and compare
  --data.root FOLDER        where the data are
  --output FOLDER           of the files (default: the model's own)
  --variants LIST           of fp32, dynamic and static, as in '[fp32, static]'
  --max_drop SHARE          accuracy that an int8 file may lose
  --calibration_images N    training images that set the static int8 ranges
  --measure_speed false     do not measure the files' speed
  --web FOLDER              a web page, too, that runs the files in a browser
  --logits FILE             a .npz of logits to learn from, and nothing else

more:
  --help all     every option there is, and each one's type"""

BENCHMARK = """usage: kd-lightning benchmark --config FILE [OPTION VALUE ...]

Measure how fast a config trains on this machine, part by part, compared with
the usual loop of tutorials. Nothing is trained to keep.

examples:
  kd-lightning benchmark --config quickstart.yaml
  kd-lightning benchmark --config cosine.yaml --output times.json
  kd-lightning benchmark --config student.yaml --data.batch_size 512

options:
  --config FILE                  a config of `fit`
  --steps N                      steps of a round (20 on a CPU, 400 on a GPU)
  --rounds N                     rounds; the loops take turns (default: 5)
  --workers N                    processes that load for the usual loop
  --images N                     training images of an epoch (default: 50000)
  --output FILE                  a JSON file with the numbers
  --data.batch_size N            images of a step
  --model.fast true              many steps in one call of Lightning's
  --trainer.accelerator NAME     cpu, gpu or auto (default: auto)
  --trainer.precision NAME       as in bf16-mixed
  --trainer.devices N            also in N processes, compared with one

more:
  --help GROUP   one of model, losses, networks, data, augmentations, trainer
  --help all     every option there is, and each one's type"""

DATA = """usage: kd-lightning {command} --data CLASS [OPTION VALUE ...]

{what}

examples:
  kd-lightning {command} --data ShapesDataModule
  kd-lightning {command} --data CIFAR10DataModule
  kd-lightning {command} --data ImageFolderDataModule --data.root photos \\
      --data.image_size 32

options:
  --data CLASS              the data; `kd-lightning list data` shows them
  --data.root FOLDER        where they are
  --data.image_size N       the side that images of a folder are resized to{more}

more:
  --help data    the data that there are
  --help all     every option there is, and each one's type"""

TEXTS = {
    "fit": FIT,
    "validate": MEASURE.format(
        command="validate",
        what="Measure a checkpoint on the validation images: losses and accuracy.",
        limit="limit_val_batches",
    ),
    "test": MEASURE.format(
        command="test",
        what="Measure a checkpoint on the test images: losses and accuracy.",
        limit="limit_test_batches",
    ),
    "compare": COMPARE,
    "export": EXPORT,
    "benchmark": BENCHMARK,
    "data": DATA.format(
        command="data",
        what="Describe a data source, and draw a sheet of example images.",
        more="\n  --output PNG              the sheet (default: data.png)",
    ),
    "stats": DATA.format(command="stats", what="Print the exact mean and standard deviation of each channel.", more=""),
}
"""The help of each command; the others' parsers print one screen by themselves."""
