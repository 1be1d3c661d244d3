/** The form of the ordinary statements. */
/** One text, for the simple protocol, or for the extended one where it has parameters. */
export type OrdinaryStatement =
  | string
  | {
      readonly sql: string;
      readonly values?: readonly unknown[];
      /** Answers differ from one moment or session to the next: their rows are not compared. */
      readonly varies?: boolean;
    };

export interface OrdinarySet {
  readonly program: string;
  /** Sent one after the other on one connection, within the tables' state that the first one finds. */
  readonly statements: readonly OrdinaryStatement[];
}
