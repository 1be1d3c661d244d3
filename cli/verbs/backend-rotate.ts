/** `writ backend rotate`: a new password for a gateway's login, proved before the old one goes. */
import { type LoginRotation, SecretService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { printRecord } from '../table.ts';
import { isoTime } from '../time.ts';
import type { Verb } from '../verb.ts';

const LOOK_MS = 250;

const SAYS: Readonly<Record<string, string>> = {
  proving: 'a gateway sets the new password and logs in with it',
  retiring:
    'the new login is proved and in use; the former one goes when nobody is logged in with it',
  undoing: 'the new login is not proved: it is taken back',
};

export const backendRotate: Verb = {
  path: ['backend', 'rotate'],
  positionals: ['BACKEND'],
  summary: "Give a backend's login a new password, prove it by a login, and retire the old one",
  options: {
    status: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
  async run(flags, io, [backend = '']) {
    const service = io.admin(SecretService);
    const options = { signal: io.signal };
    const asked =
      flags.status === true
        ? await service.getRotation({ backend }, options)
        : await service.rotateLogin({ backend }, options);
    let rotation = answered(asked);
    let told = '';
    while (flags.status !== true && SAYS[rotation.step] !== undefined) {
      if (rotation.step !== told) io.err(SAYS[rotation.step] ?? '');
      told = rotation.step;
      await systemClock.wait(LOOK_MS, io.signal);
      rotation = answered(await service.getRotation({ backend }, options));
    }
    printRecord(io, record(rotation), flags.json === true);
    if (rotation.step === 'failed' && flags.status !== true)
      throw new Fault('BACKEND_FAILED', `the old login goes on: ${rotation.reason}`);
  },
};

function answered({ rotation }: { readonly rotation?: LoginRotation | undefined }): LoginRotation {
  if (rotation === undefined) throw new Fault('INTERNAL', 'the server answered no rotation');
  return rotation;
}

function record({ backend, secret, version, step, reason, startedAt, changedAt }: LoginRotation) {
  return {
    ...{ backend, secret, version: String(version), step },
    ...(reason !== '' && { reason }),
    ...{ started_at: isoTime(startedAt), changed_at: isoTime(changedAt) },
  };
}
