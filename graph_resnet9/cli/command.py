"""What every command does around its own work.

Flags are parsed before TensorFlow is loaded: --help and a wrong flag answer at
once, and --verbosity decides what TensorFlow may say while it loads. For that
reason commands import the modules that need TensorFlow inside main.
"""

import os
import signal
import sys
import tempfile
import time
import warnings

from absl import app
from absl import flags
from absl import logging

from graph_resnet9.errors import UserError

flags.disclaim_key_flags()  # They are the command's: its --help lists them.

# Every command imports this module first, before it loads anything large.
STARTED = time.perf_counter()


def run(main, define_flags, error_code=1, takes_files=False):
  """Defines flags, parses them, calls main and exits with what it returns.

  UserError ends in one line on stderr and `error_code`, and so does a wrong
  flag. Everything else keeps its traceback.

  Args:
    main: function without arguments, or of the list of files; returns an exit
      code or None.
    define_flags: function without arguments that defines the command's flags.
    error_code: int, for commands in which 1 means something else.
    takes_files: Python bool; the command is given files, one or more, among its
      flags or behind them.
  """
  name = os.path.splitext(os.path.basename(sys.argv[0]))[0]

  def parse(argv):
    try:
      rest = flags.FLAGS(argv)
      if takes_files and len(rest) == 1:
        raise flags.Error('no files given; see --help')
      if not takes_files and len(rest) > 1:
        raise flags.Error('%r is no flag; see --help' % rest[1])
      return rest
    except flags.Error as e:
      _fail(name, e, error_code)

  def guarded(argv):
    # app.run raises the level to info where no --verbosity is given.
    if not flags.FLAGS['verbosity'].present:
      flags.FLAGS.verbosity = logging.WARNING
    try:
      _load_tensorflow()
      code = main(argv[1:]) if takes_files else main()
      sys.stdout.flush()
      return code
    except UserError as e:
      _fail(name, e, error_code)
    except KeyboardInterrupt:
      _fail(name, 'interrupted', 130)
    except BrokenPipeError:
      # The reader of stdout went away, as in `... | head`. Python would
      # complain once more when it flushes at exit.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      return 141

  define_flags()
  if takes_files:
    flags.FLAGS.set_gnu_getopt()
  app.run(guarded, flags_parser=parse)


def _fail(name, error, code):
  text = ' '.join(str(error).split())
  print('%s: %s' % (name, text), file=sys.stderr, flush=True)
  sys.exit(code)


def _load_tensorflow():
  """Loads TensorFlow, silently unless --verbosity is 0 (info) or more.

  TensorFlow's deprecation warnings are about tf.compat.v1, the subject here;
  its remarks about missing CUDA libraries go to file descriptor 2 before any
  logging setting counts.
  """
  if flags.FLAGS.verbosity >= logging.INFO:
    return
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  sys.stderr.flush()
  stderr = os.dup(2)
  # Modules that are half imported make riddles of a KeyboardInterrupt.
  interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
  with tempfile.TemporaryFile() as said:
    os.dup2(said.fileno(), 2)
    try:
      import tensorflow.compat.v1 as tf  # pylint: disable=g-import-not-at-top

      tf.layers.batch_normalization  # Loads tf-keras, too.
    except BaseException:
      said.seek(0)
      os.write(stderr, said.read())
      raise
    finally:
      os.dup2(stderr, 2)
      os.close(stderr)
      signal.signal(signal.SIGINT, interrupt)
  tf.logging.set_verbosity(tf.logging.ERROR)
  warnings.filterwarnings(
    'ignore', module='(tf_keras|tensorflow|graph_resnet9)'
  )
