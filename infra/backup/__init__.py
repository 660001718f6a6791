"""Backup, recovery to a point in time, and the drill that measures both: docs/disaster-recovery.md.

errors · lsn · key · encrypted · store   errors, WAL positions, encryption, storage
catalog · archive                        base backups, and the WAL between them
server · programs · archiver · service   the cluster to back up, and the archiver of its WAL
take · retention · verify                backups
scratch · recover · checks · restore     recovery
catch_up · drill                         loads after a recovery; measuring RPO and RTO
"""
