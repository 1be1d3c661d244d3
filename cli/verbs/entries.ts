/** `writ entry list|show|delete`: registration entries, over SPIRE's Entry service. */
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { entryRecord, idMessage, onlyResult } from '../spire-text.ts';
import { printRecord, printTable } from '../table.ts';
import { textFlag, type Verb } from '../verb.ts';

export const entryList: Verb = {
  path: ['entry', 'list'],
  positionals: [],
  summary: 'List registration entries',
  options: { 'spiffe-id': { type: 'string' }, json: { type: 'boolean', default: false } },
  async run(flags, io) {
    const id = textFlag(flags, 'spiffe-id');
    const filter = id === undefined ? {} : { filter: { bySpiffeId: idMessage(id) } };
    const { entries } = await io.admin(Entry).listEntries(filter, { signal: io.signal });
    const columns = ['id', 'spiffe_id', 'parent_id', 'selectors', 'revision'];
    printTable(io, entries.map(entryRecord), columns, flags.json === true);
  },
};

export const entryShow: Verb = {
  path: ['entry', 'show'],
  positionals: ['ENTRY'],
  summary: 'Show one registration entry',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io, [id = '']) {
    const entry = await io.admin(Entry).getEntry({ id }, { signal: io.signal });
    printRecord(io, entryRecord(entry), flags.json === true);
  },
};

export const entryDelete: Verb = {
  path: ['entry', 'delete'],
  positionals: ['ENTRY'],
  summary: 'Delete a registration entry and end the sessions that began with it',
  options: {},
  async run(_flags, io, [id = '']) {
    const { results } = await io
      .admin(Entry)
      .batchDeleteEntry({ ids: [id] }, { signal: io.signal });
    onlyResult(results);
    io.err(`deleted ${id}`);
  },
};
