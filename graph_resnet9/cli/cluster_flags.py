"""The flags of training by several processes, and on several GPUs."""

import re

from absl import flags

from graph_resnet9.cli import train_flags as recipe_flags

flags.disclaim_key_flags()  # They are the command's: its --help lists them.

_HOST = re.compile(r'[^\s:/,]+:\d{1,5}')


def define_cluster(flag_values):
  """The flags that say which process of a cluster this is."""
  flags.DEFINE_enum(
    'job_name',
    '',
    ['', 'ps', 'worker'],
    'What this process is in a cluster '
    'of several: a parameter server, which holds the variables, or a worker, '
    'which computes. Worker 0 is the chief: it evaluates and saves. TF_CONFIG '
    'in the environment says the same. By default there is no cluster.',
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    'task_index',
    0,
    'Which of the --ps_hosts or --worker_hosts this process is.',
    0,
    recipe_flags.MAX_INT,
    flag_values=flag_values,
  )
  for job, what in (('ps', 'parameter servers'), ('worker', 'workers')):
    name = job + '_hosts'
    flags.DEFINE_list(
      name,
      [],
      'HOST:PORT of all %s, with commas between them; the same '
      'list for every process.' % what,
      flag_values=flag_values,
    )
    flags.register_validator(
      name,
      lambda hosts: (
        all(
          _HOST.fullmatch(host) and 0 < int(host.split(':')[1]) < 2**16
          for host in hosts
        )
        and len(set(hosts)) == len(hosts)
      ),
      'must be HOST:PORT,HOST:PORT,..., each once, ports 1 to 65535',
      flag_values=flag_values,
    )
  flags.DEFINE_bool(
    'sync',
    False,
    'A step joins the gradients of all workers, each from its '
    'share of --batch_size images. Otherwise every worker takes steps of its '
    'own, without waiting for the others.',
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    'bind',
    'loopback',
    ['loopback', 'all'],
    'Which connections a process of '
    "a cluster accepts: this machine's own, or all. TensorFlow's servers know "
    'no authentication: all is for private networks only.',
    flag_values=flag_values,
  )
  recipe_flags.define_float(
    'wait_secs',
    300,
    'How long to wait for a host of the cluster that does '
    'not answer, at the start and later.',
    1,
    1e6,
    flag_values,
  )


def define_num_gpus(flag_values):
  flags.DEFINE_integer(
    'num_gpus',
    1,
    'Split each batch over so many GPUs of this machine. With '
    '1, whatever device there is.',
    1,
    64,
    flag_values=flag_values,
  )
