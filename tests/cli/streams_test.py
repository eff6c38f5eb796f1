"""Standard streams that are closed, full or broken, limits, odd flag values."""

import os
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized

from tests import helpers

# A command of our own, whose imports take no time.
PROGRAM = """
import sys, threading
from absl import flags, logging
from graph_resnet9.cli import command
from graph_resnet9.errors import UserError

command.load_tensorflow = lambda verbosity: None

def define():
  flags.DEFINE_string('what', '', '')
  flags.DEFINE_list('names', [], '')

def main():
  logging.warning('warned')
  if flags.FLAGS.what == 'threads':
    threading.stack_size(1 << 45)  # More than there is room for.
    threading.Thread(target=print).start()
  with open('kept', 'w') as f:
    print('result', flush=flags.FLAGS.what == 'flush')
    if flags.FLAGS.what == 'refuse':
      raise UserError('refused')
    f.write(flags.FLAGS.what)

command.run(main, define)
"""


class StreamsTest(parameterized.TestCase):
  def run_program(self, redirection, *args, python=(), **variables):
    self.folder = self.create_tempdir().full_path
    return subprocess.run(
      [
        *('sh', '-c', 'exec "$@" ' + redirection, 'sh', sys.executable),
        *python,
        *('-c', PROGRAM, *args),
      ],
      cwd=self.folder,
      env=helpers.environment(PYTHONPATH=str(helpers.ROOT), **variables),
      capture_output=True,
      text=True,
      check=False,
    )

  def kept(self):
    with open(os.path.join(self.folder, 'kept')) as f:
      return f.read()

  @parameterized.parameters('>&-', '2>&-', '<&-', '>&- 2>&-', '<&- >&- 2>&-')
  def test_closed_streams_are_as_dev_null(self, redirection):
    done = self.run_program(redirection, '--what=done')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(self.kept(), 'done')  # And no line of a stream in it.
    self.assertEqual(
      done.stdout,
      ''
      if '>&- ' in redirection + ' ' and '2>&-' != redirection
      else 'result\n',
    )
    if '2>&-' not in redirection:
      self.assertIn('warned', done.stderr)

  @parameterized.product(what=['flush', 'end'], unbuffered=['', '1'])
  def test_full_stdout_is_one_line(self, what, unbuffered):
    done = self.run_program(
      '>/dev/full',
      *('--verbosity=-3', '--what=' + what),
      PYTHONUNBUFFERED=unbuffered,
    )
    self.assertEqual(done.returncode, 1, done.stderr)
    self.assertEqual(
      done.stderr, '-c: stdout: cannot be written: No space left on device\n'
    )

  @parameterized.product(what=['flush', 'end'], unbuffered=['', '1'])
  def test_reader_of_stdout_that_went_away(self, what, unbuffered):
    folder = self.create_tempdir().full_path
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
      [sys.executable, '-c', PROGRAM, '--what=' + what, '--verbosity=-3'],
      cwd=folder,
      env=helpers.environment(
        PYTHONPATH=str(helpers.ROOT), PYTHONUNBUFFERED=unbuffered
      ),
      stdout=write,
      stderr=subprocess.PIPE,
      text=True,
    )
    os.close(write)
    _, stderr = process.communicate()
    self.assertEqual((process.returncode, stderr), (141, ''))

  @parameterized.parameters(('refuse', 1), ('done', 0))
  def test_full_stderr_changes_no_exit_code(self, what, code):
    done = self.run_program('2>/dev/full', '--what=' + what)
    self.assertEqual(done.returncode, code)
    self.assertEqual(done.stdout, 'result\n')

  def test_no_more_threads_is_one_line(self):
    done = self.run_program('', '--what=threads', '--verbosity=-3')
    self.assertEqual((done.returncode, done.stdout), (1, ''))
    self.assertRegex(done.stderr, r'^-c: no more threads .*`ulimit -u`\n$')

  def test_both_full(self):
    done = self.run_program('>/dev/full 2>&1', '--what=done')
    self.assertEqual(done.returncode, 1)

  @parameterized.parameters('a\nb', 'a\r', ' a', 'a\x85b', 'a\udcff')
  def test_flag_that_is_no_line_of_text_is_refused(self, value):
    done = self.run_program('', '--what=' + value)
    self.assertEqual((done.returncode, done.stdout), (1, ''))
    self.assertLen(done.stderr.splitlines(), 1, done.stderr)
    self.assertIn('--what=%r' % value, done.stderr)

  def test_list_with_a_name_that_is_no_text_is_refused(self):
    done = self.run_program('', '--names=b,a\udcff')
    self.assertEqual((done.returncode, done.stdout), (1, ''))
    self.assertIn("--names='a\\udcff'", done.stderr)

  def test_python_without_docstrings_is_refused(self):
    done = self.run_program('', python=['-OO'])
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertLen(done.stderr.splitlines(), 1, done.stderr)
    self.assertIn('-OO', done.stderr)


if __name__ == '__main__':
  absltest.main()
