#include "experiments/verbs.h"

int main(int count, char** words) { return evoke::command(count, words); }
