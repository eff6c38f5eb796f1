"""What every command does around its own work.

Flags are parsed before TensorFlow is loaded: --help and a wrong flag answer at
once, and --verbosity decides what TensorFlow may say while it loads. For that
reason commands import the modules that need TensorFlow inside main.
"""

import contextlib
import os
import re
import signal
import sys
import tempfile
import warnings

from absl import app
from absl import flags
from absl import logging

from graph_resnet9.cli import requirements
from graph_resnet9.cli import usage
from graph_resnet9.errors import UserError

flags.disclaim_key_flags()  # They are the command's: its --help lists them.


def run(
  main,
  define_flags,
  error_code=1,
  takes_files=False,
  least_files=1,
  check=None,
  first=(),
  settings=None,
  anywhere=False,
):
  """Defines flags, parses them, calls main and exits with what it returns.

  UserError ends in one line on stderr and `error_code`, and so does a wrong
  flag. Everything else keeps its traceback.

  Args:
    main: function without arguments, or of the list of files; returns an exit
      code or None.
    define_flags: function without arguments that defines the command's flags.
    error_code: int, for commands in which 1 means something else.
    takes_files: Python bool; the command is given files among its flags or
      behind them, `least_files` or more.
    check: function without arguments that refuses what can be refused before
      TensorFlow is loaded.
    first: names of the flags that --help shows first.
    settings: class of settings by whose groups --help shows the others.
    anywhere: Python bool; the command runs on TensorFlow 1.15, too.
  """
  if not anywhere:
    requirements.check()
  name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
  _open_streams()
  if sys.flags.optimize > 1:
    _fail(name, 'python -OO: tf-keras needs its docstrings; leave -OO', 2)

  def parse(argv):
    options = argv[: argv.index('--')] if '--' in argv else argv
    if {'--help', '-help', '-h', '-?'} & {*options[1:]}:
      about = sys.modules['__main__'].__doc__
      try:
        print(usage.text(about, flags.FLAGS, own, first, settings))
        sys.stdout.flush()
      except OSError as e:
        sys.exit(_lost_stream(name, e, error_code))
      sys.exit(0)
    try:
      rest = flags.FLAGS(argv)
      if takes_files and len(rest) <= least_files:
        raise flags.Error('no files given; see --help')
      if not takes_files and len(rest) > 1:
        raise flags.Error('%r is no flag; see --help' % rest[1])
      _check_text()
      return rest
    except flags.Error as e:
      missing = re.search(r'(--\w+) must have a value other than None', str(e))
      if missing:
        e = '%s is missing; see --help' % missing[1]
      _fail(name, e, error_code)

  def guarded(argv):
    # app.run raises the level to info where no --verbosity is given.
    if not flags.FLAGS['verbosity'].present:
      flags.FLAGS.verbosity = logging.WARNING
    code = None
    try:
      if check:
        check()
      load_tensorflow(flags.FLAGS.verbosity)
      code = main(argv[1:]) if takes_files else main()
      sys.stdout.flush()
      return code
    except UserError as e:
      _fail(name, e, error_code)
    except KeyboardInterrupt:
      _fail(name, 'interrupted', 130)
    except RuntimeError as e:
      if str(e) != "can't start new thread":
        raise
      text = 'no more threads may be started; raise `ulimit -u`'
      _fail(name, text, error_code)
    except OSError as e:
      lost = _lost_stream(name, e, error_code)
      return code or lost  # A signal's, which came before.

  others = {*flags.FLAGS}
  define_flags()
  own = [each for each in flags.FLAGS if each not in others]
  if takes_files:
    flags.FLAGS.set_gnu_getopt()
  app.run(guarded, flags_parser=parse)


def _lost_stream(name, error, code):
  """The exit code where a standard stream takes no more; other errors go on."""
  if not hasattr(error, 'stream'):
    raise error
  _give_up_lost_streams()
  if isinstance(error, BrokenPipeError):
    return 141  # The reader of stdout went away, as in `... | head`.
  text = '%s: cannot be written: %s' % (error.stream, error.strerror)
  _fail(name, text, code)


def _fail(name, error, code):
  text = ' '.join(str(error).split())
  _give_up_lost_streams()
  with contextlib.suppress(OSError):  # Nobody is left to be told.
    print('%s: %s' % (name, text), file=sys.stderr, flush=True)
  _give_up_lost_streams()
  sys.exit(code)


def _open_streams():
  """Opens standard streams that are closed, as for a daemon: on /dev/null.

  Else the next files that are opened, a checkpoint or a lock, would be stdout
  and stderr for all C++ code, and for Python there would be None.
  """
  for number, name in enumerate(('stdin', 'stdout', 'stderr')):
    try:
      os.fstat(number)
    except OSError:
      os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # The lowest.
    if getattr(sys, name) is None:
      setattr(sys, name, open(number, 'r' if name == 'stdin' else 'w'))
  _name_in_errors(sys.stdout, 'stdout')
  _name_in_errors(sys.stderr, 'stderr')
  logging.get_absl_handler().python_handler.stream = sys.stderr


def _name_in_errors(stream, name):
  """Gives every OSError of a stream an attribute `stream`, its name.

  Otherwise nobody could tell that it is not of a file.
  """

  def named(method):
    def call(*args):
      try:
        return method(*args)
      except OSError as e:
        e.stream = name
        raise

    return call

  stream.write, stream.flush = named(stream.write), named(stream.flush)


def _give_up_lost_streams():
  """Turns streams that take no more to /dev/null.

  Else what is left in their buffers is an error again when Python ends.
  """
  for stream in (sys.stdout, sys.stderr):
    try:
      stream.flush()
    except OSError:
      os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _check_text():
  """Raises flags.Error if a flag is not one line of text.

  flags.txt has a line for each, and TensorFlow takes names in UTF-8 only.
  """
  for name in flags.FLAGS:
    values = flags.FLAGS[name].value
    for value in values if isinstance(values, list) else [values]:
      if isinstance(value, str) and (
        len(value.splitlines()) > 1
        or value != value.strip()
        or value != value.encode(errors='replace').decode()
      ):
        raise flags.Error(
          '--%s=%r: must be one line of UTF-8, without blanks around it'
          % (name, value)
        )


def load_tensorflow(verbosity):
  """Loads TensorFlow, silently unless --verbosity is 0 (info) or more.

  For processes that a command starts, too.

  TensorFlow's deprecation warnings are about tf.compat.v1, the subject here;
  its remarks about missing CUDA libraries go to file descriptor 2 before any
  logging setting counts.
  """
  if verbosity >= logging.INFO:
    return
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  sys.stderr.flush()
  stderr = os.dup(2)
  # Modules that are half imported make riddles of a KeyboardInterrupt.
  interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
  with tempfile.TemporaryFile() as output:
    os.dup2(output.fileno(), 2)
    try:
      import tensorflow.compat.v1 as tf  # pylint: disable=g-import-not-at-top

      tf.layers.batch_normalization  # Loads tf-keras, too.
    except BaseException:
      output.seek(0)
      os.write(stderr, output.read())
      raise
    finally:
      os.dup2(stderr, 2)
      os.close(stderr)
      signal.signal(signal.SIGINT, interrupt)
  tf.logging.set_verbosity(tf.logging.ERROR)
  warnings.filterwarnings(
    'ignore', module='(tf_keras|tensorflow|graph_resnet9)'
  )
