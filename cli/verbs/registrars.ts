/** `writ registrar put|list|show|delete`: who may register entries over mTLS, and within which bounds. */
import { type Registrar, RegistrarService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { formatDuration } from '../../runtime/duration.ts';
import { Fault } from '../../runtime/fault.ts';
import { readRegistrar } from '../registrar-document.ts';
import { printRecord, printTable } from '../table.ts';
import { isoTime } from '../time.ts';
import { textFlag, type Verb } from '../verb.ts';

export const registrarPut: Verb = {
  path: ['registrar', 'put'],
  positionals: [],
  summary: 'Let a workload register entries within the bounds of a YAML file',
  options: { file: { type: 'string', short: 'f' }, json: { type: 'boolean', default: false } },
  async run(flags, io) {
    const file = textFlag(flags, 'file');
    if (file === undefined) throw new Fault('USAGE', 'registrar put: name a file with -f FILE');
    const asked = await readRegistrar(file === '-' ? '/dev/stdin' : file);
    const { registrar } = await io
      .admin(RegistrarService)
      .putRegistrar({ registrar: asked }, { signal: io.signal });
    if (registrar === undefined) throw new Fault('INTERNAL', 'the server answered no registrar');
    if (flags.json === true) printRecord(io, registrarRecord(registrar), true);
    else io.out(registrar.spiffeId);
  },
};

export const registrarList: Verb = {
  path: ['registrar', 'list'],
  positionals: [],
  summary: 'List registrars and what they may register',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io) {
    const { registrars } = await io
      .admin(RegistrarService)
      .listRegistrars({}, { signal: io.signal });
    if (flags.json === true) {
      io.out(JSON.stringify(registrars.map(registrarRecord), undefined, 2));
      return;
    }
    const rows = registrars.map(({ spiffeId, spiffeIds, parents, selectors }) => ({
      spiffe_id: spiffeId,
      spiffe_ids: spiffeIds.join(' '),
      parents: parents.join(' '),
      selectors: selectors.join(' '),
    }));
    printTable(io, rows, ['spiffe_id', 'spiffe_ids', 'parents', 'selectors'], false);
  },
};

export const registrarShow: Verb = {
  path: ['registrar', 'show'],
  positionals: ['SPIFFE_ID'],
  summary: 'Show one registrar with all of its bounds',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io, [spiffeId = '']) {
    const { registrars } = await io
      .admin(RegistrarService)
      .listRegistrars({}, { signal: io.signal });
    const found = registrars.find((one) => one.spiffeId === spiffeId);
    if (found === undefined) throw new Fault('NOT_FOUND', 'no registrar of that SPIFFE ID');
    printRecord(io, registrarRecord(found), flags.json === true);
  },
};

export const registrarDelete: Verb = {
  path: ['registrar', 'delete'],
  positionals: ['SPIFFE_ID'],
  summary: 'Take the right to register from a workload; its entries stay',
  options: {},
  async run(_flags, io, [spiffeId = '']) {
    await io.admin(RegistrarService).deleteRegistrar({ spiffeId }, { signal: io.signal });
    io.err(`deleted ${spiffeId}`);
  },
};

/** As the file says it, and since when. */
function registrarRecord(registrar: Registrar) {
  const { defaults } = registrar;
  return {
    spiffe_id: registrar.spiffeId,
    spiffe_ids: registrar.spiffeIds,
    parents: registrar.parents,
    selectors: registrar.selectors,
    dns_names: registrar.dnsNames,
    federates_with: registrar.federatesWith,
    hint: registrar.hint,
    ...lifetime('max_x509_svid_ttl', registrar.maxX509SvidTtlSeconds),
    ...lifetime('max_jwt_svid_ttl', registrar.maxJwtSvidTtlSeconds),
    ...(defaults && {
      defaults: {
        owner: defaults.owner,
        purpose: defaults.purpose,
        environment: defaults.environment,
        kind: defaults.kind,
        expires_in: formatDuration(defaults.expiresInSeconds),
      },
    }),
    created_at: isoTime(registrar.createdAt),
  };
}

function lifetime(name: string, seconds: number) {
  return seconds === 0 ? {} : { [name]: formatDuration(seconds) };
}
