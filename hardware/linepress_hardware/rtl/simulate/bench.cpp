// Test bench of a line engine, for models of verilator or CXXRTL (-DCXXRTL): every vector, compared bit for bit.
// bench RECORDS CONFIG [MUTANT]: uint32 records (line, size, wanted, bits wanted, error) and (address, data) pairs.
// The first half of the lines is offered without a pause, the second with random ones.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <vector>
#include MODEL

static std::vector<uint32_t> load(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) { perror(path); exit(2); }
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    rewind(file);
    std::vector<uint32_t> words(bytes / 4);
    if (fread(words.data(), 4, bytes / 4, file) != size_t(bytes / 4)) exit(2);
    fclose(file);
    return words;
}

#ifdef CXXRTL
#define p_cfg_we p_cfg__we
#define p_cfg_addr p_cfg__addr
#define p_cfg_data p_cfg__data
#define p_out_valid p_out__valid
#define p_out_size p_out__size
#define JOIN(a, b) a##b
#define SET(port, value) dut.JOIN(p_, port).set<uint32_t>(value)
#define GET(port) dut.JOIN(p_, port).get<uint32_t>()
#define LINE_WORD(w) dut.p_line.data[w]
#define DATA_WORD(w) dut.p_data.curr.data[w]
#define EVAL() dut.step()
#else
#define SET(port, value) dut.port = (value)
#define GET(port) dut.port
#define LINE_WORD(w) dut.line[w]
#define DATA_WORD(w) word(dut.data, w)
static uint32_t word(uint64_t narrow, size_t w) { return uint32_t(narrow >> (32 * w)); }
template <size_t N> static uint32_t word(const VlWide<N> &wide, size_t w) { return wide[w]; }
#define EVAL() dut.eval()
#endif
#define TICK() (SET(clk, 0), EVAL(), SET(clk, 1), EVAL())

int main(int argc, char **argv) {
    const size_t WORDS_IN = (LINE_BITS + 31) / 32, WORDS_OUT = (DATA_BITS + 31) / 32, RECORD = WORDS_IN + WORDS_OUT + 3;
    std::vector<uint32_t> records = load(argv[1]), config = load(argv[2]);
    DUT dut;
#ifdef MUTANTS
    SET(mutant, argc > 3 ? atoi(argv[3]) : 0);
#endif
    SET(rst, 1); SET(valid, 0); SET(cfg_we, 0);
    TICK(); TICK();
    SET(rst, 0);
    for (size_t i = 0; i < config.size(); i += 2) {
        SET(cfg_we, 1); SET(cfg_addr, config[i]); SET(cfg_data, config[i + 1]);
        TICK();
    }
    SET(cfg_we, 0);
    const size_t total = records.size() / RECORD, steady = (total + 1) / 2;
    size_t sent = 0, got = 0, differ = 0, refused = 0;
    long long first = -1;
    std::deque<uint64_t> taken;
    uint64_t now = 0, answered = 0, least = ~0ull, most = 0, random = 88172645463325252ull, steady_clocks = 0;
    while (got < total) {
        SET(clk, 0); EVAL();
        random ^= random << 13; random ^= random >> 7; random ^= random << 17;
        bool offer = sent < total && (sent < steady || random % 3);
        SET(valid, offer);
        const uint32_t *next = &records[RECORD * (sent < total ? sent : 0)];
        for (size_t w = 0; w < WORDS_IN; w++) {
            uint32_t word = next[w];
            if (w == WORDS_IN - 1 && LINE_BITS % 32) word &= (1u << (LINE_BITS % 32)) - 1;
            LINE_WORD(w) = word;
        }
        SET(size, next[WORDS_IN]);
        EVAL();
        if (offer && GET(ready)) { taken.push_back(now); sent++; if (sent == steady) steady_clocks = now; }
        SET(clk, 1); EVAL();
        now++;
        if (GET(out_valid)) {
            answered = now;
            if (taken.empty()) { printf("{\"differ\": 1, \"first\": %zu, \"reason\": \"an answer without a line\"}\n", got); return 0; }
            const uint32_t *want = &records[RECORD * got + WORDS_IN + 1];
            uint64_t cycles = now - 1 - taken.front();
            taken.pop_front();
            if (cycles < least) least = cycles;
            if (cycles > most) most = cycles;
            bool same = true, error = GET(error);
#ifdef OUT_SIZE
            same = GET(out_size) == want[WORDS_OUT];
#endif
            for (size_t w = 0; w < WORDS_OUT; w++) {
                int left = int(want[WORDS_OUT]) - int(32 * w);
                uint32_t mask = left >= 32 ? ~0u : left > 0 ? (1u << left) - 1 : 0;
                same &= (DATA_WORD(w) & mask) == (want[w] & mask);
            }
            refused += error;
            if (error != bool(want[WORDS_OUT + 1]) || (!error && !same)) { if (!differ++) first = got; }
            got++;
        }
        if (now - answered > 100000) { if (!differ++) first = got; break; }      // it hangs
    }
    printf("{\"lines\": %zu, \"refused\": %zu, \"differ\": %zu, \"first\": %lld, \"cycles_least\": %llu, \"cycles_most\": %llu, "
           "\"interval\": %.4f}\n", got, refused, differ, first, (unsigned long long)least, (unsigned long long)most,
           steady > 1 ? double(steady_clocks) / (steady - 1) : 0.0);
    return 0;
}
