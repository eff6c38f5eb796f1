"""Who is who in a cluster, and who may call."""

import json
import os
import socket
import threading
import time

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from graph_resnet9.cluster import servers
from graph_resnet9.cluster import sockets
from graph_resnet9.cluster import tasks
from graph_resnet9.errors import UserError
from tests import helpers

HOSTS = dict(ps_hosts='a:1,b:2', worker_hosts='c:3,d:4,e:5')


def of_flags(environment=None, **flags):
  settings = helpers.settings(train_dir='-', **flags)
  return tasks.task_of(settings.cluster, environment or {})


def of_tf_config(config):
  return of_flags({'TF_CONFIG': config})


class TaskTest(parameterized.TestCase):
  def test_without_a_cluster(self):
    self.assertIsNone(of_flags())

  def test_of_flags(self):
    second = of_flags(job_name='worker', task_index=1, **HOSTS)
    self.assertFalse(second.chief)
    self.assertEqual(second.device, '/job:worker/task:1')
    self.assertEqual(second.ps, ('a:1', 'b:2'))
    self.assertEqual(second.needed, ('a:1', 'b:2', 'c:3'))
    self.assertEqual(
      second._replace(sync=True).needed, ('a:1', 'b:2', 'c:3', 'd:4', 'e:5')
    )
    self.assertEqual(
      of_flags(job_name='ps', task_index=1, **HOSTS).hosts[1], 'b:2'
    )

  @parameterized.parameters(('worker', 1, 'worker', 1), ('ps', 0, 'ps', 0))
  def test_of_tf_config(self, kind, index, job, expected):
    found = of_tf_config(
      json.dumps(
        {
          'cluster': {'ps': ['a:1'], 'worker': ['c:3', 'd:4']},
          'task': {'type': kind, 'index': index},
        }
      )
    )
    self.assertEqual((found.job, found.index), (job, expected))
    self.assertEqual(found.workers, ('c:3', 'd:4'))

  @parameterized.parameters(('chief', 0, 0), ('worker', 0, 1), ('worker', 1, 2))
  def test_a_chief_in_tf_config_is_worker_0(self, kind, index, expected):
    found = of_tf_config(
      json.dumps(
        {
          'cluster': {
            'ps': ['a:1'],
            'chief': ['c:3'],
            'worker': ['d:4', 'e:5'],
          },
          'task': {'type': kind, 'index': index},
        }
      )
    )
    self.assertEqual((found.job, found.index), ('worker', expected))
    self.assertEqual(found.workers, ('c:3', 'd:4', 'e:5'))

  def test_flags_win_over_tf_config(self):
    found = of_flags({'TF_CONFIG': 'garbage'}, job_name='ps', **HOSTS)
    self.assertEqual(found.job, 'ps')

  def test_tf_config_of_another_program_is_none(self):
    self.assertIsNone(of_tf_config('{}'))
    self.assertIsNone(of_tf_config(''))

  @parameterized.parameters(
    '[]',
    '{"cluster": 3}',
    '{"cluster": {"ps": ["a:1"]}}',
    'garbage',
    '[' * 2000,
    '{"cluster": {"ps": [1], "worker": ["b:2"]}, "task": {"type": "ps", '
    '"index": 0}}',
    '{"cluster": {"ps": ["a:1"], "worker": ["b:2"]}, "task": '
    '{"type": "evaluator", "index": 0}}',
    '{"cluster": {"ps": ["a:1"], '
    '"worker": ["b:2"]}, "task": {"type": "ps", "index": "x"}}',
  )
  def test_damaged_tf_config(self, config):
    with self.assertRaisesRegex(UserError, 'TF_CONFIG'):
      of_tf_config(config)

  @parameterized.parameters(
    (['a'], ['b:2'], 0),
    (['a:1'], ['b:0'], 0),
    (['a:1'], ['b:99999'], 0),
    (['a:1', 'a:1'], ['b:2'], 0),
    (['a:1'], ['b:2', 'b:2'], 0),
    (['x' * 64 + ':1'], ['b:2'], 0),
    ('a:1', ['b:2'], 0),
    (['a:1'], ['b:2'], -1),
  )
  def test_tf_config_is_held_to_what_the_flags_are(self, ps, workers, index):
    cluster = {'ps': ps, 'worker': workers}
    with self.assertRaisesRegex(UserError, 'TF_CONFIG: expected'):
      of_tf_config(
        json.dumps(
          {'cluster': cluster, 'task': {'type': 'worker', 'index': index}}
        )
      )

  @parameterized.parameters(
    (dict(ps_hosts='a:1', worker_hosts='b:2'), 'say with --job_name'),
    (dict(job_name='ps', ps_hosts='a:1'), 'needs --ps_hosts and'),
    (dict(job_name='worker', task_index=3, **HOSTS), 'there are 3 hosts'),
    (
      dict(job_name='ps', ps_hosts='a:1', worker_hosts='b:2,a:1'),
      'a:1: stands in --ps_hosts and in',
    ),
    (dict(sync=True), '--sync: needs a cluster'),
  )
  def test_flags_that_contradict_themselves(self, flags, message):
    with self.assertRaisesRegex(UserError, message):
      of_flags(**flags)

  @parameterized.parameters(
    'a', 'a:0', 'a:65536', 'a:1,a:1', 'http://a:1', 'a:b', ':1', 'x' * 64 + ':1'
  )
  def test_host_that_is_none(self, host):
    with self.assertRaisesRegex(Exception, 'must be HOST:PORT'):
      of_flags(job_name='ps', ps_hosts=host, worker_hosts='b:2')

  def test_variables_take_turns_and_the_rest_is_the_worker_s(self):
    found = of_flags(job_name='worker', task_index=1, **HOSTS)
    with tf.Graph().as_default(), tf.device(tasks.device_setter(found)):
      variables = [
        tf.get_variable(name, [], use_resource=True) for name in 'xyz'
      ]
      self.assertEqual(
        [v.device for v in variables],
        ['/job:ps/task:%d' % i for i in (0, 1, 0)],
      )
      self.assertEqual(tf.zeros([]).device, '/job:worker/task:1')


class SocketsTest(parameterized.TestCase):
  @parameterized.parameters(
    ('127.0.0.1', True),
    ('localhost', True),
    ('127.3.4.5', True),
    ('192.0.2.1', False),
    ('0.0.0.0', False),
    ('no.such.invalid', False),
    ('x' * 64, False),
  )
  def test_loopback(self, name, expected):
    self.assertEqual(sockets.is_loopback(name), expected)

  def test_server_hears_loopback_only(self):
    with socket.create_server(('127.0.0.1', 0)) as free:
      port = free.getsockname()[1]
    host = '127.0.0.1:%d' % port
    with self.subTest('bound'):
      self.assertFalse(sockets.answers(host))
    server = servers.start_server(
      tasks.Task('worker', 0, ('127.0.0.1:1',), (host,), False, 'loopback', 1.0)
    )
    self.assertTrue(sockets.answers(host))
    bound = [
      each.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
      for each in sockets.listening(port)
    ]
    self.assertEqual(bound, [b'lo\0'])
    del server

  def test_other_hosts_need_bind_all(self):
    with self.assertRaisesRegex(UserError, r'192.0.2.1:5:.*--bind=all'):
      servers.start_server(
        tasks.Task(
          'ps', 0, ('192.0.2.1:5',), ('192.0.2.2:5',), False, 'loopback', 1.0
        )
      )

  def test_taken_port(self):
    with socket.create_server(('', 0)) as taken:
      port = taken.getsockname()[1]
      with self.assertRaisesRegex(UserError, ':%d: cannot listen' % port):
        servers.start_server(
          tasks.Task(
            'ps',
            0,
            ('127.0.0.1:%d' % port,),
            ('127.0.0.1:1',),
            False,
            'loopback',
            1.0,
          )
        )

  def test_host_that_never_comes_is_named(self):
    with self.assertRaisesRegex(
      UserError, '127.0.0.1:1: has not answered for 0.1 s'
    ):
      servers.wait_for(
        tasks.Task(
          'worker', 0, ('127.0.0.1:1',), ('127.0.0.1:2',), False, 'all', 0.1
        )
      )

  def test_one_address_by_two_names(self):
    task = tasks.Task(
      'worker', 0, ('localhost:5', '127.0.0.1:05'), ('a:1',), False, 'all', 1.0
    )
    with self.assertRaisesRegex(
      UserError, 'localhost:5 and 127.0.0.1:05 are one address'
    ):
      servers.start_server(task)

  def test_task_that_is_started_twice(self):
    with socket.create_server(('127.0.0.1', 0)) as free:
      host = '127.0.0.1:%d' % free.getsockname()[1]
    task = tasks.Task('ps', 0, (host,), ('127.0.0.1:1',), False, 'all', 1.0)
    first = servers.start_server(task)
    with self.assertRaisesRegex(UserError, '%s: .*ps 0 started twice' % host):
      servers.start_server(task)
    del first

  def test_who_accepts_connections_but_is_no_server_does_not_answer(self):
    for reply in (None, b'', b'HTTP/1.0 400 Bad Request\r\n\r\n'):
      with socket.create_server(('127.0.0.1', 0)) as listening:

        def serve(listening=listening, reply=reply):
          connection, _ = listening.accept()
          if reply is None:
            time.sleep(2.5)  # As a process that is frozen.
          else:
            connection.sendall(reply)
          connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        host = '127.0.0.1:%d' % listening.getsockname()[1]
        self.assertFalse(sockets.answers(host), reply)
        thread.join()

  def test_questions_do_not_disturb_a_server(self):
    with socket.create_server(('127.0.0.1', 0)) as free:
      host = '127.0.0.1:%d' % free.getsockname()[1]
    server = servers.start_server(
      tasks.Task('ps', 0, (host,), ('127.0.0.1:1',), False, 'loopback', 1.0)
    )
    descriptors = len(os.listdir('/proc/self/fd'))
    with tf.Graph().as_default(), tf.device('/job:ps/task:0'):
      count = tf.get_variable('count', initializer=0, use_resource=True)
      more = count.assign_add(1)
      with tf.Session(
        server.target, config=tf.ConfigProto(device_filters=['/job:ps'])
      ) as session:
        session.run(count.initializer)
        begin, answered = session.run(count), 0
        for i in range(200):
          answered += sockets.answers(host)
          self.assertEqual(session.run(more), begin + i + 1)
    self.assertGreater(answered, 190)  # Two seconds may pass on a busy machine.
    # One each would be 200; the server itself opens up to 25.
    self.assertLess(len(os.listdir('/proc/self/fd')), descriptors + 100)

  def test_name_that_dns_cannot_hold_does_not_answer(self):
    self.assertFalse(sockets.answers('x' * 64 + ':1'))


if __name__ == '__main__':
  absltest.main()
