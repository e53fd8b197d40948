-- A schedule follows the name of its volume: when that is in the trash and a volume of the same name comes to life (made anew, restored), it goes
-- on with the live one. Here, because whoever brings a volume to life must not forget it, and a purge of the old one takes along what is bound to it.

CREATE TRIGGER schedules_follow_new AFTER INSERT ON volumes WHEN NEW.deleted_at IS NULL BEGIN
  UPDATE schedules SET volume_id = NEW.id WHERE EXISTS (
    SELECT 1 FROM volumes old WHERE old.id = schedules.volume_id AND old.name = NEW.name AND old.deleted_at IS NOT NULL);
END;

CREATE TRIGGER schedules_follow_restored AFTER UPDATE OF name, deleted_at ON volumes WHEN NEW.deleted_at IS NULL BEGIN
  UPDATE schedules SET volume_id = NEW.id WHERE EXISTS (
    SELECT 1 FROM volumes old WHERE old.id = schedules.volume_id AND old.name = NEW.name AND old.deleted_at IS NOT NULL);
END;

UPDATE schedules SET volume_id = (
    SELECT live.id FROM volumes old JOIN volumes live ON live.name = old.name AND live.deleted_at IS NULL
    WHERE old.id = schedules.volume_id)
  WHERE EXISTS (
    SELECT 1 FROM volumes old JOIN volumes live ON live.name = old.name AND live.deleted_at IS NULL
    WHERE old.id = schedules.volume_id AND old.deleted_at IS NOT NULL);
