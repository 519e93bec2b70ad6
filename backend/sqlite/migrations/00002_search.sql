-- +goose Up
CREATE INDEX instances_status ON instances (status, key);
CREATE INDEX instances_name ON instances (name, key);

-- +goose Down
DROP INDEX instances_name;
DROP INDEX instances_status;
