"""Ops of a graph that read or write files, or run code, when the graph is run.

lint runs nothing; diagnose, recalibrate and everybody's session do.
"""

import re

from graph_resnet9.doctor.lint import findings

_CODE = re.compile(
  r'(Eager)?PyFunc(Stateless)?|GeneratorDataset|PyInvoke|RemoteCall|'
  r'Xla(Launch|CustomCall).*|CustomAggregator'
)
# Saver's own ops write and read what a session is told, and so are left out.
_FILES = re.compile(
  r'(Read|Write)File|MatchingFiles|WholeFileReader(V2)?|'
  r'(TextLine|TFRecord|FixedLengthRecord|LMDB|Identity)Reader(V2)?|'
  r'(Experimental)?(TextLine|TFRecord|FixedLengthRecord|CSV|LMDB|Sql|'
  r'MatchingFiles|Snapshot|Save|Load|Cache)Dataset(V\d)?|'
  r'InitializeTableFromTextFile(V2)?|ImmutableConst|'
  r'(Create)?Summary(File|Db)Writer|DecodeProtoV2|EncodeProto|'
  r'DeleteFile|RenameFile|CopyFile|MergeV2Checkpoints|'
  r'LoadAndRemapMatrix|GenerateVocabRemapping|FileSystemSetConfiguration'
)


def notes(view):
  """Lines that name the ops of a GraphView that do so."""
  for pattern, what in (
    (_CODE, 'run code outside of the graph'),
    (_FILES, 'read or write files'),
  ):
    ops = [
      '%s (%s)' % (node.name, node.op)
      for node in view.nodes.values()
      if pattern.fullmatch(node.op)
    ]
    if ops:
      yield 'when run, ops %s: %s' % (what, findings.listed(ops))
