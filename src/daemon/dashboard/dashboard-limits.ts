/** Colours of ranks in the style sheet; from that rank on they repeat. */
export const RANK_COLOURS = 8;
