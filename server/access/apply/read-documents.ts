import * as v from 'valibot';
import type { Resource } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import {
  describeIssues,
  type ParsedDocument,
  parseYamlDocuments,
} from '../../../runtime/config.ts';
import { Fault } from '../../../runtime/fault.ts';
import {
  columnClassResource,
  columnsResource,
  postgresBackend,
  postgresGrant,
  sshBackend,
  sshGrant,
} from './document-resources.ts';
import {
  columnClassSchema,
  columnsSchema,
  postgresBackendSchema,
  postgresGrantSchema,
} from './document-schemas.ts';
import { sshBackendSchema, sshGrantSchema } from './ssh-schemas.ts';

/** A file as the caller gave it. */
export interface ApplyFile {
  /** For messages alone; untrusted. */
  readonly name: string;
  /** YAML; untrusted. */
  readonly content: string;
}

/** A resource that a file declares, and where. */
export interface Declared {
  readonly resource: Resource;
  /** `FILE:LINE: path` of a field, for messages. */
  at(path: readonly (string | number)[]): string;
}

/** All documents of all files, those that have the right shape; and every problem of the others. */
export interface Declarations {
  readonly declared: readonly Declared[];
  readonly problems: readonly string[];
  /** `Kind/name` of documents with problems. */
  readonly unread: ReadonlySet<string>;
}

const MAXIMUM_DOCUMENTS = 10_000;

/** Reads files; what they declare is not yet checked against each other or the store. */
export function readDocuments(files: readonly ApplyFile[]): Declarations {
  const declared: Declared[] = [];
  const problems: string[] = [];
  const unread = new Set<string>();
  for (const { name, content } of files) {
    for (const document of parsed(name, content, problems)) {
      const read = readDocument(name, document);
      if (Array.isArray(read)) {
        problems.push(...read);
        unread.add(claimedName(document.value));
      } else declared.push(read);
    }
  }
  if (declared.length > MAXIMUM_DOCUMENTS) {
    problems.push(`expected at most ${MAXIMUM_DOCUMENTS} documents, got ${declared.length}`);
  }
  return { declared, problems, unread };
}

function claimedName(value: unknown): string {
  const claimed = v.safeParse(v.looseObject({ kind: v.string(), name: v.string() }), value);
  return claimed.success ? `${claimed.output.kind}/${claimed.output.name}` : '';
}

function parsed(name: string, content: string, problems: string[]): readonly ParsedDocument[] {
  try {
    return parseYamlDocuments(name, content);
  } catch (error) {
    if (!(error instanceof Fault && error.code === 'CONFIG_INVALID')) throw error;
    problems.push(...error.message.split('\n'));
    return [];
  }
}

/** The resource, or the problems. */
function readDocument(file: string, document: ParsedDocument): Declared | string[] {
  const at = (path: readonly (string | number)[]) => {
    const line = document.locate(path).line;
    return path.length === 0 ? `${file}:${line}` : `${file}:${line}: ${path.join('.')}`;
  };
  const resource = toResource(document.value);
  if (typeof resource === 'object' && 'name' in resource) return { resource, at };
  if ('says' in resource) return [`${at(resource.path)}: ${resource.says}`];
  return describeIssues(file, document, resource.issues);
}

type Unread =
  | { readonly issues: readonly [v.BaseIssue<unknown>, ...v.BaseIssue<unknown>[]] }
  | { readonly says: string; readonly path: readonly string[] };

const kindSchema = v.looseObject({
  kind: v.picklist(['Backend', 'ColumnClass', 'Columns', 'Grant']),
});

function toResource(value: unknown): Resource | Unread {
  const head = v.safeParse(kindSchema, value);
  if (!head.success) return { issues: head.issues };
  switch (head.output.kind) {
    case 'Backend':
      return toBackend(value);
    case 'ColumnClass':
      return convert(columnClassSchema, value, columnClassResource);
    case 'Columns':
      return convert(columnsSchema, value, columnsResource);
    case 'Grant':
      return toGrant(head.output);
  }
}

const typeSchema = v.looseObject({ type: v.picklist(['postgres', 'ssh'], 'postgres or ssh') });

function toBackend(value: unknown): Resource | Unread {
  const head = v.safeParse(typeSchema, value);
  if (!head.success) return { issues: head.issues };
  return head.output.type === 'ssh'
    ? convert(sshBackendSchema, value, sshBackend)
    : convert(postgresBackendSchema, value, postgresBackend);
}

/** A grant has the rights of one type of backend, by which it is read. */
function toGrant(document: Readonly<Record<string, unknown>>): Resource | Unread {
  const [ofPostgres, ofSsh] = ['postgres' in document, 'ssh' in document];
  if (ofPostgres && ofSsh) {
    return { says: 'expected rights of one type, postgres or ssh, got both', path: ['ssh'] };
  }
  if (ofSsh) return convert(sshGrantSchema, document, sshGrant);
  if (ofPostgres) return convert(postgresGrantSchema, document, postgresGrant);
  return { says: 'expected rights, under postgres or ssh, got none', path: [] };
}

function convert<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  make: (document: v.InferOutput<S>) => Resource,
): Resource | Unread {
  const result = v.safeParse(schema, value);
  return result.success ? make(result.output) : { issues: result.issues };
}
