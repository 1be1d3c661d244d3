import type { Reader, Row, Transaction } from '../plugins/datastore/datastore.ts';
import { instant, integer, text } from '../plugins/datastore/row.ts';

/** A gateway works on the first three; the others are ends. */
export const ROTATION_STEPS = ['proving', 'retiring', 'undoing', 'done', 'failed'] as const;
export type RotationStepName = (typeof ROTATION_STEPS)[number];

/** The newest rotation of one backend's login. */
export interface RotationRecord {
  readonly backend: string;
  readonly id: string;
  readonly secret: string;
  /** That it makes. */
  readonly version: number;
  readonly step: RotationStepName;
  /** Why it failed, or waits. */
  readonly reason: string;
  /** The process of a gateway that is at the step; empty: none. */
  readonly worker: string;
  readonly leaseUntil: Date;
  readonly startedAt: Date;
  /** When this step began. */
  readonly stepAt: Date;
}

const COLUMNS = ['backend', 'id', 'secret', 'version', 'step', 'reason', 'worker', 'lease_ms'];

export async function listRotations(reader: Reader): Promise<RotationRecord[]> {
  return (await reader.all('select * from rotations order by backend')).map(rotationFromRow);
}

export async function findRotation(
  reader: Reader,
  by: 'backend' | 'id',
  value: string,
): Promise<RotationRecord | undefined> {
  const row = await reader.get(`select * from rotations where ${by} = ?`, value);
  return row === undefined ? undefined : rotationFromRow(row);
}

/** Whether two passwords of this secret are about to change places. */
export async function isBeingRotated(reader: Reader, secret: string): Promise<boolean> {
  const row = await reader.get(
    `select 1 as found from rotations where secret = ? and step in ('proving', 'retiring')`,
    secret,
  );
  return row !== undefined;
}

export async function writeRotation(tx: Transaction, rotation: RotationRecord): Promise<void> {
  const { backend, id, secret, version, step, reason, worker, leaseUntil } = rotation;
  const names = [...COLUMNS, 'started_at_ms', 'step_at_ms'];
  const updates = names.slice(1).map((name) => `${name} = excluded.${name}`);
  await tx.run(
    `insert into rotations (${names.join(', ')}) values (${names.map(() => '?').join(', ')})
     on conflict (backend) do update set ${updates.join(', ')}`,
    ...[backend, id, secret, version, step, reason, worker, leaseUntil.getTime()],
    ...[rotation.startedAt.getTime(), rotation.stepAt.getTime()],
  );
}

function rotationFromRow(row: Row): RotationRecord {
  return {
    backend: text(row, 'backend'),
    id: text(row, 'id'),
    secret: text(row, 'secret'),
    version: integer(row, 'version'),
    step: stepOf(text(row, 'step')),
    reason: text(row, 'reason'),
    worker: text(row, 'worker'),
    leaseUntil: instant(row, 'lease_ms'),
    startedAt: instant(row, 'started_at_ms'),
    stepAt: instant(row, 'step_at_ms'),
  };
}

function stepOf(value: string): RotationStepName {
  const step = ROTATION_STEPS.find((one) => one === value);
  if (step === undefined) throw new Error(`${value} is no step of a rotation`);
  return step;
}
