"""Backup, recovery to a point in time, and the drill that measures both: docs/disaster-recovery.md.

errors · lsn · key · sealed · store      words, arithmetic, encryption, where it is kept
catalog · archive                        what is there: base backups, and the write-ahead log between them
server · programs · archiver · service   the cluster that is backed up, and who follows its log
take · retention · verify                the story of a backup
scratch · recover · checks · restore     the story of a recovery
catch_up · drill                         what sources hold since; how long all of it takes
"""
