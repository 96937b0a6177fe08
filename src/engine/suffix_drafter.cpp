#include "engine/suffix_drafter.h"

#include <algorithm>

namespace cortex {
namespace {

constexpr std::size_t kMostReadAtOnce = 4096;  // tokens: tens of microseconds
constexpr int kBeginning = 8;                  // tokens that it counts for that both texts begin here
constexpr int kFarStrayed = 16;                // tokens, after which a trail is lost
constexpr std::size_t kFarSkipped = 12;        // of the text, that an edit may leave out
constexpr int kNearness = 3;                   // tokens that it counts for to be near the trail
constexpr int kFirm = 8;                       // tokens after which a trail that was found again is as good as any
constexpr std::size_t kKeptOfPrompt = 32;      // tokens before an output
constexpr std::size_t kShortestKept = 8;

}  // namespace

Draft SuffixDrafter::propose(const DraftContext& context, int most) {
  const auto [it, is_new] = sequences_.try_emplace(context.sequence);
  Followed& followed = it->second;
  if (is_new && !context.prediction.empty()) {
    followed.trail = Trail{.source = DraftSource::prediction, .next = 0, .at = context.prompt_tokens};
  }
  followed.tokens.read(context.tokens, kMostReadAtOnce);
  followed.prediction.read(context.prediction, kMostReadAtOnce);

  std::optional<Candidate> best = search(followed, context);
  if (followed.trail) {
    follow(&*followed.trail, context);
    const bool strayed = followed.trail->strayed > 0;
    auto near = strayed ? near_trail(*followed.trail, context) : on_trail(*followed.trail, context);
    const int nearness = strayed || followed.trail->found_again ? kNearness : 0;
    if (near && (!best || near->matched + nearness >= best->matched)) best = near;
    if (followed.trail->strayed > kFarStrayed) followed.trail.reset();
  }
  if (!best) return {};
  // A short match elsewhere is no reason to give up a trail that may be found again.
  if (best->trail &&
      (!followed.trail || best->trail->found_again || followed.trail->strayed == 0 || best->matched > kNearness)) {
    followed.trail = best->trail;
  }

  Draft draft{{}, best->source, best->matched};
  const bool runs_into_itself = best->trail && best->trail->source == DraftSource::context;
  for (std::size_t i = 0; i < static_cast<std::size_t>(most); ++i) {
    if (i < best->next.size()) {
      draft.tokens.push_back(best->next[i]);
    } else if (runs_into_itself) {
      draft.tokens.push_back(draft.tokens[i - best->next.size()]);
    } else {
      break;
    }
  }
  return draft;
}

void SuffixDrafter::follow(Trail* trail, const DraftContext& context) {
  const std::span<const TokenId> text = text_of(trail->source, context);
  for (; trail->at < context.tokens.size(); ++trail->at) {
    if (trail->strayed == 0 && trail->next < text.size() && text[trail->next] == context.tokens[trail->at]) {
      ++trail->next;
    } else {
      ++trail->strayed;
    }
  }
}

std::optional<SuffixDrafter::Candidate> SuffixDrafter::on_trail(const Trail& trail, const DraftContext& context) {
  const std::span<const TokenId> text = text_of(trail.source, context);
  if (trail.next >= text.size()) return std::nullopt;
  Candidate candidate{trail.source, text.subspan(trail.next), matched_tokens(text, trail.next, context.tokens), trail};
  const bool from_beginning = trail.source == DraftSource::prediction &&
                              trail.next == context.tokens.size() - context.prompt_tokens &&
                              candidate.matched >= std::min(static_cast<int>(trail.next), kLongestMatch);
  if (from_beginning) candidate.matched += kBeginning;
  if (trail.found_again && candidate.matched < kFirm) {
    candidate.source = DraftSource::nearby;
  } else {
    candidate.trail->found_again = false;
  }
  return candidate;
}

// Of the text's places around where the sequence left it, the one before which most is alike; of such the one that
// supposes that as many tokens were left out as others came.
std::optional<SuffixDrafter::Candidate> SuffixDrafter::near_trail(const Trail& trail, const DraftContext& context) {
  const std::span<const TokenId> text = text_of(trail.source, context);
  const std::size_t even = trail.next + static_cast<std::size_t>(trail.strayed);
  SuffixMatch best{even, 0};
  for (std::size_t place = trail.next; place <= even + kFarSkipped && place < text.size(); ++place) {
    const int matched = matched_tokens(text, place, context.tokens);
    const auto distance = [&](std::size_t other) { return other > even ? other - even : even - other; };
    if (matched < best.matched || (matched == best.matched && distance(place) >= distance(best.next))) continue;
    best = {place, matched};
  }
  if (best.next >= text.size() || trail.strayed > kFarStrayed) return std::nullopt;
  if (best.matched == 0) return Candidate{DraftSource::nearby, text.subspan(best.next), 0, std::nullopt};
  return Candidate{DraftSource::nearby, text.subspan(best.next), best.matched,
                   Trail{.source = trail.source, .next = best.next, .at = context.tokens.size(), .found_again = true}};
}

std::optional<SuffixDrafter::Candidate> SuffixDrafter::search(const Followed& followed,
                                                              const DraftContext& context) const {
  std::optional<Candidate> best;
  const auto look = [&](DraftSource source, const SuffixIndex& index) {
    const std::span<const TokenId> text = text_of(source, context);
    const auto match = index.find(text, context.tokens);
    if (!match || (best && match->matched <= best->matched)) return;
    best = {source, text.subspan(match->next), match->matched, Trail{source, match->next, context.tokens.size()}};
  };
  look(DraftSource::prediction, followed.prediction);
  look(DraftSource::context, followed.tokens);
  const auto output = outputs_.find(context.salt, context.tokens);
  if (output && (!best || output->matched > best->matched)) {
    best = {DraftSource::outputs, output->next, output->matched, std::nullopt};
  }
  return best;
}

void SuffixDrafter::finish(const DraftContext& context) {
  const std::size_t output = context.tokens.size() - context.prompt_tokens;
  if (output < kShortestKept) return;
  const std::size_t kept = std::min(context.prompt_tokens, kKeptOfPrompt) + output;
  outputs_.add(context.salt, context.tokens.last(kept));
}

}  // namespace cortex
